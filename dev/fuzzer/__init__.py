"""Any bytes, for all that reads what others wrote: dev/fuzz, and a short form in the tests."""
