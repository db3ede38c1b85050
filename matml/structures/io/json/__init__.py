"""Crystals in JSON: dictionaries of libraries, responses of databases, tables by pandas."""
