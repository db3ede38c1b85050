"""Laboratories that keep their data learn one prior together.

Only sums over a laboratory's alloys travel, as small files: `matml federated`.
"""
