"""Flower as transport of federated rounds: its messages carry the very files of the commands.

A SuperLink stands with the coordinator, a SuperNode in each laboratory (https://flower.ai, extra
`federated`); what a round is, and what is refused, is that of `matml federated`.
"""
