"""The local page: the same numbers as the commands, and a browser that never leaves the machine."""

import base64
import io
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from matml.cli.kinetics.commands import kinetics
from matml.core.errors import MatmlError

pytest.importorskip("dash", reason="needs dash: pip install 'matml[app]'")

from matml.app.answer import answer, archive, duration
from matml.app.page import text_of_cells
from matml.app.question import Question
from matml.app.record import Dropped, pair
from matml.app.server import address, bind, make_app, stop

POINTS = """temperature_C,time_h,hardness_HRC
500,1,41
500,4,38
550,2,35
600,1,31
600,8,27
650,2,24
"""
STEEL = "C 0.4, Mn 0.7"


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Synthetic: a dilatometer's record of a hold, with a sigmoid in its length."""
    time = np.arange(0.0, 2000.0, 5.0)
    length = 1e-4 * (1 - np.exp(-((time / 600) ** 2.5))) * 10_000
    lines = [f"{t:.0f};650,0;{x:.5f}" for t, x in zip(time, length, strict=True)]
    path = tmp_path_factory.mktemp("record") / "hold.csv"
    path.write_text("\n".join(["Time s;Temperature °C;Length change µm", *lines]), "latin-1")
    return path


def test_a_quick_answer_is_the_whole_one_with_fewer_draws(within):
    answer(Question(POINTS, "tempering", STEEL), False)  # what is loaded once
    with within(0.3):
        quick = answer(Question(POINTS.replace(",41", ",42"), "tempering", STEEL), False)
        drawn = list(quick.figures())
    whole = answer(Question(POINTS.replace(",41", ",42"), "tempering", STEEL), True)
    assert len(drawn) == len(list(whole.figures())) == 1
    np.testing.assert_allclose(
        quick.alloy.parameters["median"], whole.alloy.parameters["median"], rtol=0.25
    )
    thinned = whole.alloy.calibration.draws[::4]
    np.testing.assert_array_equal(quick.alloy.calibration.draws, thinned)


def test_the_archive_repeats_by_its_commands(tmp_path, monkeypatch):
    question = Question(POINTS.replace(",", "\t"), "auto", STEEL)
    with zipfile.ZipFile(io.BytesIO(archive(question))) as packed:
        packed.extractall(tmp_path)
    (kept,) = (tmp_path / "calibration").glob("alloy*/")
    assert {"calibration.json", "parameters.csv", "ttt.png", "ttt.svg"} <= {
        path.name for path in kept.iterdir()
    }
    monkeypatch.chdir(tmp_path)
    shutil.move("calibration", "given")
    commands = Path("commands.txt").read_text().splitlines()
    assert len(commands) == 2
    for command in commands:
        done = CliRunner().invoke(kinetics, command.split()[2:])
        assert done.exit_code == 0, done.output
    again = pd.read_csv(f"calibration/{kept.name}/parameters.csv")
    pd.testing.assert_frame_equal(again, pd.read_csv(f"given/{kept.name}/parameters.csv"))
    shown = answer(question, True).parameters()
    assert shown["median"].tolist() == again["median"].map("{:.4g}".format).tolist()


def test_the_points_choose_population_and_equation():
    fraction = "temperature_C,time_s,fraction_transformed\n"
    rows = "800,10,0.1\n800,30,0.5\n850,10,0.5\n850,20,0.9\n"
    found = answer(Question(fraction + rows), True)
    assert found.priors == ["metallic_glasses", "recrystallisation"]
    assert any("robab" in note or "mixed" in note for note in found.alloy.notes)
    peaks = "heating_rate_K_per_min,peak_temperature_C\n5,480\n10,492\n20,505\n40,519\n"
    found = answer(Question(peaks), True)
    assert found.priors == ["typical:kissinger"]
    assert found.under() == "typical ranges of kissinger"
    assert found.proposals().empty
    (command,) = Question(peaks).commands(found.priors)
    assert "--equation kissinger" in command


def test_doubts_stand_at_their_lines():
    wrong = POINTS.replace("600,1,31", "600,1,58") + "700,1,hard\n"
    doubts = answer(Question(wrong, "tempering", STEEL), True).doubts()
    assert "times the noise" in doubts[5]
    assert "not a number" in doubts[8] or "number" in doubts[8]
    assert set(doubts) <= {5, 8, 2, 3, 4, 6, 7}


@pytest.mark.parametrize(
    ("points", "composition", "told"),
    [
        ("", "", "no points yet"),
        ("a,b\n1,2\n", "", "has no measured column"),
        (POINTS, "C lots", "'C lots' is no amount"),
        (POINTS, "C 0.4 C 0.5", "names an element twice"),
        ("alloy,temperature_C,time_s,hardness_HRC\na,500,1,40\nb,500,1,40\n", "", "2 alloys"),
        ("Steel;temperature_C;time_s;hardness_HRC\na;500;1,5;40\nb;500;1;40\n", "", "2 alloys"),
        ("Güte,temperature_C,time_s,hardness_HRC\na,500,1,40\nb,500,1,40\n", "", "name several"),
        ("temperature_C,time_s,hardness_HRC\n", "", "no row below its header"),
    ],
)
def test_what_cannot_be_answered_is_told(points, composition, told):
    with pytest.raises(MatmlError, match=told):
        answer(Question(points, "auto", composition), False)


def test_an_instruments_file_becomes_points(record):
    file = Dropped(record.name, record.read_bytes())
    told = file.understood()
    assert told["role"] == "length"
    assert any("hold at 650" in text for text in told["segments"].values())
    made = file.points("length", {}, "1")
    table = pd.read_csv(io.StringIO(made))
    assert len(table) <= 100
    assert table["fraction_transformed"].between(0, 1).all()
    half = np.interp(0.5, table["fraction_transformed"], table["time_s"])
    assert half == pytest.approx(600 * np.log(2) ** (1 / 2.5), rel=0.05)
    with pytest.raises(MatmlError, match="a ramp needs --parent"):
        file.points("length", {}, None)
    with pytest.raises(MatmlError, match=r"^not-there"):
        Dropped("not-there.csv", b"nothing").understood()
    with pytest.raises(MatmlError, match="give two numbers"):
        pair("700 to", "parent")
    assert pair(" 700,5 750 ", "parent") == (700.5, 750)


def test_a_column_alloy_in_capitals_is_kept(tmp_path):
    rows = POINTS.splitlines()
    question = Question("\n".join([f"Alloy,{rows[0]}", *(f"40Mn,{row}" for row in rows[1:])]))
    points, _ = question.write(tmp_path, [])
    assert set(pd.read_csv(points)["alloy"]) == {"40Mn"}
    assert answer(question, False).alloy.observations.names == ["40Mn"]


def asked(output, inputs, state):
    """Return what the page answers, whose last part of outputs is `output`, as the browser asks."""
    client, host = make_app().server.test_client(), {"Host": "localhost"}
    callbacks = client.get("/_dash-dependencies", headers=host).get_json()
    (one,) = [c for c in callbacks if c["inputs"][0] == {**c["inputs"][0], **output}]
    parts = [dict(zip(("id", "property"), part.split("."), strict=True))
             for part in one["output"].strip(".").split("...")]  # fmt: skip
    body = {
        "output": one["output"],
        "outputs": parts,
        "inputs": [{**output, "value": inputs}],
        "state": [
            {**place, "value": given} for place, given in zip(one["state"], state, strict=True)
        ],
        "changedPropIds": [f"{output['id']}.{output['property']}"],
    }
    done = client.post("/_dash-update-component", json=body, headers=host)
    assert done.status_code == 200, done.get_data(as_text=True)
    return {name.split("@")[0]: part for name, part in done.get_json()["response"].items()}


def test_a_workbook_is_refused_in_words():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as workbook:
        workbook.writestr("xl/workbook.xml", "<workbook/>")
    url = f"data:;base64,{base64.b64encode(packed.getvalue()).decode()}"
    told = asked({"id": "upload", "property": "contents"}, url, ["points.xlsx"])
    assert told["record"]["children"].startswith("points.xlsx: bytes that are no text; save it as")
    assert "text" not in told


def test_what_cannot_be_saved_is_told():
    question = {"points": "", "prior": "auto", "composition": ""}
    told = asked({"id": "save", "property": "n_clicks"}, 1, [question])
    assert told["said"]["children"].startswith("no points yet")


def test_small_words():
    assert [duration(t) for t in (12, 600, 115_200, 1e6)] == ["12 s", "10 min", "32 h", "11.6 d"]
    assert text_of_cells(["a", "b"], ["1", "2", "", "x"]) == "a,b\n1,2\n,x\n"


def test_other_hosts_are_refused():
    client = make_app().server.test_client()
    assert client.get("/", headers={"Host": "127.0.0.1:8050"}).status_code == 200
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403


@pytest.fixture
def page(chromium_executable):
    """The page in a real Chromium; afterwards nothing may have failed or left the machine."""
    api = pytest.importorskip("playwright.sync_api")
    server = bind(0)
    assert server.host == "127.0.0.1"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    told = []
    try:
        with api.sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=chromium_executable, args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.set_default_timeout(60_000)
            page.on("pageerror", lambda error: told.append(str(error)))
            page.on("console", lambda m: told.append(m.text) if m.type == "error" else None)
            own = (address(server), "data:", "blob:")
            page.on("request", lambda r: None if r.url.startswith(own) else told.append(r.url))
            page.goto(address(server))
            yield page
            browser.close()
    finally:
        server.shutdown()
        thread.join()
        stop(server)
    assert told == []


def test_six_points_to_a_diagram_in_the_browser(page, tmp_path):
    page.fill("#text", POINTS.replace("600,1,31", "600,1,58").replace(",", "\t"))
    page.wait_for_selector("#figures .main-svg")
    page.wait_for_function("document.querySelector('#commands').innerText.includes('tempering')")
    page.wait_for_function("document.querySelector('.points').innerText.includes('the noise')")
    before = page.inner_text("#parameters")
    cell = page.get_by_label("hardness_HRC, point 4")
    assert cell.input_value() == "58"
    cell.fill("31")
    cell.press("Enter")
    page.wait_for_function(
        "before => document.querySelector('#parameters').innerText != before", arg=before
    )
    page.wait_for_function("!document.querySelector('.points').innerText.includes('the noise')")
    assert page.input_value("#text") == POINTS
    assert "Measure next" in page.inner_text("#next")
    page.fill("#composition", "C plenty")
    page.press("#composition", "Enter")
    page.wait_for_function("document.querySelector('#said').innerText.includes('is no amount')")
    page.fill("#composition", STEEL)
    page.press("#composition", "Enter")
    page.wait_for_function("document.querySelector('#said').innerText == ''")
    page.wait_for_function("document.querySelector('#commands').innerText.includes('--alloys')")
    with page.expect_download() as given:
        page.click("#save")
    given.value.save_as(tmp_path / "alloy.zip")
    assert "commands.txt" in zipfile.ZipFile(tmp_path / "alloy.zip").namelist()


def test_an_instruments_file_in_the_browser(page, record):
    page.set_input_files("#upload input[type=file]", record)
    page.wait_for_selector("#convert")
    assert "hold at 650" in page.inner_text("#record")
    assert page.get_by_label("1 hold at 650").is_checked()  # there is no other
    page.get_by_label("the only one that fits").check()
    page.click("#convert")
    page.wait_for_function("document.querySelector('#said').innerText.includes('--parent')")
    page.get_by_label("1 hold at 650").check()
    page.click("#convert")
    page.wait_for_function("document.querySelector('#text').value.includes('fraction_transformed')")
    page.wait_for_selector("#figures .main-svg")
