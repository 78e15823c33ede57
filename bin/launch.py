"""Starts the command named first from this checkout's package; bin/launch runs it."""

import importlib
import os
import sys

BIN = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(BIN))
name = sys.argv.pop(1)
sys.argv[0] = os.path.join(BIN, name)  # failoverd looks for watchd beside itself
sys.exit(importlib.import_module(f"failoverd.commands.{name.replace('-', '_')}").main())
