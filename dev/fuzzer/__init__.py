"""Any bytes, for all that reads what others wrote: bin/fuzz, and a short form in the tests."""
