"""Freshet beside its peers: what bench/run is made of."""
