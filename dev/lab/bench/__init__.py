"""What dev/bench runs: failoverd beside what else a user would pick, measured on this host."""
