"""The agent ocf:failoverd:traffic on a real cluster of three nodes; dev/cluster runs it."""
