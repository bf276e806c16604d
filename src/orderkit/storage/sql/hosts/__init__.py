"""Connections of the application's own that orderkit can be a guest on: one module for each kind."""

from __future__ import annotations
