"""The wire as bytes: the protocol of the port, ARP and neighbour discovery, typed messages."""
