"""Common names of well-known prototypes, and the slots where their anions usually are.

Labels and names were compared with the AFLOW prototype library that pymatgen ships (Mehl et al.,
Comput. Mater. Sci. 136, S1 (2017)); Strukturbericht symbols in the comments are from there.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class KnownPrototype:
    """A prototype with a name.

    Attributes
    ----------
    name
        Common name of the usual occupation.
    usual
        Slots (letters of the prototype's formula) that anions may take in it; crystals with
        anions elsewhere are another family. None: never split (intermetallic types).
    others
        Name by the slots that anions take, for unusual occupations that have one.
    metalloids
        Whether metalloids and pnictogens count as anions here where no stronger one is present
        (so Mg2Si is an antifluorite); elsewhere they mix freely with metals.
    """

    name: str
    usual: str | None = None
    others: dict[str, str] = field(default_factory=dict)
    metalloids: bool = False


def _named(name: str, usual: str | None = None, **others: str) -> KnownPrototype:
    return KnownPrototype(name, usual, others)


def _polar(name: str, usual: str, **others: str) -> KnownPrototype:
    return KnownPrototype(name, usual, others, metalloids=True)


PROTOTYPES: dict[str, KnownPrototype] = {
    # elements
    "A_cF4_225_a": _named("face-centred cubic"),  # A1
    "A_cI2_229_a": _named("body-centred cubic"),  # A2
    "A_hP2_194_c": _named("hexagonal close-packed"),  # A3
    "A_hP4_194_ac": _named("double hexagonal close-packed"),  # A3'
    "A_cF8_227_a": _named("diamond"),  # A4
    "A_hP4_194_bc": _named("graphite"),  # A9
    # AB
    "AB_cF8_225_a_b": _named("rocksalt", "B"),  # B1
    "AB_cP2_221_a_b": _named("CsCl"),  # B2
    "AB_cF8_216_a_c": _named("zincblende", "B"),  # B3
    "AB_hP4_186_b_b": _named("wurtzite", "B"),  # B4
    "AB_hP4_194_a_c": _named("NiAs", "B", A="anti-NiAs"),  # B8_1
    "AB_tP2_123_a_d": _named("L1_0 (CuAu)"),
    "AB_cF16_227_a_b": _named("Zintl phase (NaTl)"),  # B32
    "AB_cP8_198_a_a": _named("FeSi"),  # B20
    "AB_oC8_63_c_c": _named("CrB", "B"),  # B33
    "AB_oP8_62_c_c": _named("MnP or FeB", "B"),  # B31, B27: same sites
    "AB_hP2_187_a_d": _named("tungsten carbide", "B"),  # B_h
    "AB_hP4_194_c_d": _named("boron nitride", "B"),  # B_k
    "AB_tP4_129_a_c": _named("PbO", "AB"),  # B10
    "AB_tP4_131_c_e": _named("PtS", "B"),  # B17
    # AB2
    "AB2_cF12_225_a_c": _polar("fluorite", "B", A="antifluorite"),  # C1
    "AB2_tP6_136_a_f": _polar("rutile", "B", A="antirutile"),  # C4
    "AB2_tI12_141_a_e": _named("ThSi2", "", B="anatase"),  # C_c, C5
    "AB2_oP24_61_c_2c": _named("brookite", "B"),  # C21
    "AB2_cP12_205_a_c": _named("pyrite", "B"),  # C2
    "AB2_oP6_58_a_g": _named("marcasite", "B", A="anti-CaCl2 (Fe2C)"),  # C18, C35: same sites
    "AB2_hP3_164_a_d": _polar("CdI2", "B", A="anti-CdI2"),  # C6
    "AB2_hR9_166_a_c": _polar("CdCl2", "B", A="anti-CdCl2"),  # C19
    "AB2_hP6_194_c_f": _named("molybdenite", "B"),  # C7
    "AB2_cF24_227_a_d": _named("cubic Laves (C15)"),
    "AB2_hP12_194_f_ah": _named("hexagonal Laves (C14)"),
    "AB2_hP24_194_ef_fgh": _named("hexagonal Laves (C36)"),
    "AB2_hP3_191_a_d": _named("AlB2", "B"),  # C32
    "AB2_tI6_139_a_e": _named("MoSi2 or CaC2", "B"),  # C11_b, C11_a: same sites
    "AB2_tI12_140_a_h": _named("CuAl2", "B"),  # C16
    "AB2_oP12_62_c_2c": _named("Co2Si or cotunnite", "", B="cotunnite"),  # C37, C23
    "AB2_hP6_194_c_ad": _named("Ni2In", "B"),  # B8_2
    "AB2_mP12_14_e_2e": _named("baddeleyite", "B"),  # C43
    "AB2_cP6_224_a_b": _named("cuprite", "A", B="anticuprite"),  # C3
    "AB2_hP9_152_a_c": _named("quartz", "B"),
    "AB2_oC12_63_c_2c": _named("ZrSi2", "B"),  # C49
    "AB2_hP9_189_ad_fg": _named("Fe2P"),  # C22
    # AB3, AB5, AB6, A2B3
    "AB3_cP4_221_a_c": _named("L1_2 (AuCu3)"),
    "AB3_cP4_221_a_d": _named("ReO3", "B", A="anti-ReO3 (Cu3N)"),  # D0_9
    "AB3_cP8_223_a_c": _named("A15 (Cr3Si)"),
    "AB3_cF16_225_a_bc": _named("D0_3 (BiF3)", "B"),
    "AB3_hP8_194_c_h": _named("D0_19 (Ni3Sn)"),
    "AB3_tI8_139_a_bd": _named("D0_22 (TiAl3)"),
    "AB3_tI16_139_e_cde": _named("D0_23 (ZrAl3)"),
    "AB3_hP8_194_c_bf": _named("Na3As", "A"),  # D0_18
    "AB3_cI32_204_c_g": _named("skutterudite", "B"),  # D0_2
    "AB3_hR24_148_c_f": _named("BiI3", "B"),  # D0_5
    "AB3_mC16_12_g_ij": _named("AlCl3", "B"),  # D0_15
    "AB3_oP16_62_c_cd": _named("YF3 or Al3Ni", "B", A="cementite"),  # D0_20, D0_11
    "AB3_hP8_176_c_h": _named("UCl3", "B"),
    "AB4_tI10_139_a_de": _named("BaAl4"),  # D1_3
    "AB5_hP6_191_a_cg": _named("CaCu5"),  # D2_d
    "AB6_cP7_221_a_f": _named("CaB6", "B"),  # D2_1
    "AB12_tI26_139_a_fij": _named("ThMn12"),  # D2_b
    "A2B3_hR30_167_c_e": _named("corundum", "B"),  # D5_1
    "A2B3_hP5_164_d_ad": _polar("Al3Ni2", "", B="A-type La2O3", A="anti-La2O3 (Mg3Sb2)"),  # D5_13
    "A2B3_oP20_62_2c_3c": _named("stibnite", "B"),  # D5_8
    "A2B3_cI80_206_ad_e": _named("bixbyite", "B", A="antibixbyite"),  # D5_3
    "A3B4_cI28_220_a_c": _polar("Th3P4", "B", A="anti-Th3P4"),
    "A3B5_hP16_193_g_dg": _named("Mn5Si3"),  # D8_8
    "A2B3_tP10_127_g_ah": _named("U3Si2"),  # D5_a
    # ABC
    "ABC_cF12_216_a_b_c": _named("half-Heusler"),  # C1_b
    "ABC_oP12_62_c_c_c": _named("TiNiSi", "C", BC="ordered PbCl2 (two anions)"),
    "ABC_hP9_189_ad_f_g": _named("ZrNiAl"),
    "ABC_hP6_194_a_c_d": _named("BeZrSi", "C"),
    "ABC_hP6_186_a_b_b": _named("LiGaGe", "C"),
    "ABC_tP6_129_a_c_c": _named("CeFeSi or Cu2Sb", "", AC="matlockite (PbFCl)"),  # E0_1
    "ABC_oP6_59_a_a_b": _named("FeOCl", "AB"),
    # ABC2
    "ABC2_cF16_225_a_b_c": _named("Heusler"),  # L2_1
    "ABC2_cF16_216_a_c_bd": _named("inverse Heusler"),
    "ABC2_hR12_166_a_b_c": _named("alpha-NaFeO2 or delafossite", "C"),  # F5_1
    "ABC2_hP8_194_a_c_f": _named("", "", A="MAX phase (Cr2AlC)", C="2H delafossite"),
    "ABC2_tI16_122_a_b_d": _named("chalcopyrite", "C"),  # E1_1
    "ABC2_oC16_63_c_c_f": _named("MgCuAl2", ""),  # E1_a
    "ABC2_oC16_63_c_c_2c": _named("CeNiSi2", ""),
    "ABC2_tP8_129_a_c_bc": _named("HfCuSi2", ""),
    # ABC3
    "ABC3_cP5_221_a_b_c": _named(
        "cubic perovskite", "C", B="antiperovskite", AB="antiperovskite (two anions)"
    ),
    "ABC3_oP20_62_a_c_cd": _named("orthorhombic perovskite (GdFeO3)", "C"),
    "ABC3_hP10_194_a_c_h": _named("hexagonal perovskite (2H)", "C", A="hexagonal antiperovskite"),
    "ABC3_tP5_99_a_b_ac": _named("tetragonal perovskite (PbTiO3)", "C"),
    "ABC3_hR30_167_a_b_e": _named("calcite or rhombohedral perovskite", "C"),  # G0_1
    "ABC3_hR30_148_c_c_f": _named("ilmenite", "C"),
    "ABC3_hR30_161_a_a_b": _named("LiNbO3", "C"),
    "ABC3_oP20_62_c_c_cd": _named("aragonite", "C"),  # G0_2
    "ABC3_oC20_63_a_c_cf": _named("post-perovskite", "C"),
    # A2B4-like and larger
    "AB2C4_cF56_227_a_d_e": _named("spinel", "C"),  # H1_1
    "AB2C4_oI28_74_a_ce_hi": _named("inverse spinel (ordered, Imma)", "C"),
    "AB2C4_tP28_91_a_bc_2d": _named("inverse spinel (ordered, P4_122)", "C"),
    "AB2C4_tI14_139_a_e_ce": _named("K2NiF4", "C", A="anti-K2NiF4", AB="anti-K2NiF4 (two anions)"),
    "AB2C4_tI14_82_a_bc_g": _named("defect chalcopyrite (CdAl2S4)", "C"),  # E3
    "AB2C4_oP28_62_c_ac_2cd": _named("olivine", "C"),
    "ABC4_tI24_141_a_b_h": _named("zircon", "C"),
    "ABC4_tI24_88_a_b_f": _named("scheelite", "C"),  # H0_4
    "ABC4_oP24_62_c_c_2cd": _named("barite", "C"),
    "ABC4_mP24_14_e_e_4e": _named("monazite", "C"),
    "AB2C2_tI10_139_a_d_e": _named("ThCr2Si2", "C", AB="anti-ThCr2Si2 (La2O2Te)"),
    "AB2C2_tP10_127_a_g_h": _named("Mo2FeB2"),
    "AB2C2_hP5_164_a_d_d": _named("CaAl2Si2", "C", AC="La2O2S", BC="La2O2S"),
    "AB2C6_cF36_225_a_c_e": _named("K2PtCl6", "C"),
    "AB2C6_hP9_164_a_d_i": _named("K2GeF6", "C"),
    "ABC6_hR24_148_a_b_f": _named("LiSbF6", "C"),
    "ABC2D6_cF40_225_a_b_c_e": _named("elpasolite (cubic double perovskite)", "D"),
    "ABC2D6_tI20_87_a_b_d_eh": _named("tetragonal double perovskite", "D"),
    "ABC2D6_mP20_14_a_d_e_3e": _named("monoclinic double perovskite", "D"),
    "ABC2D4_tI16_121_a_b_d_i": _named("stannite", "D"),  # H2_6
    "ABCD_tP8_129_a_b_c_c": _named("ZrCuSiAs", "B", BD="ZrCuSiAs (two anions)"),
    "ABC2D2_tI12_139_a_b_d_e": _named("borocarbide (LuNi2B2C)", "B"),
    "A2B2C7_cF88_227_c_d_af": _named("pyrochlore", "C"),
    "AB3C4_cP8_215_a_d_e": _named("sulvanite", "C"),  # H2_4
    "AB3C4_hP16_194_c_af_ef": _named("MAX phase (Ti4AlN3)", "B"),
}
