"""Strict provider simulators: real protocol, the providers' own rules and error bodies, faults on demand."""
