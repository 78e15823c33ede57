"""What developers run: CONTRIBUTING.md says what each is for. The package imports nothing of it."""
