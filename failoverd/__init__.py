"""failoverd: two-node failover that watches traffic."""

__version__ = "2.1.0"
