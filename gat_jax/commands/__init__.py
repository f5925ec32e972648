"""Command lines: options, a call, and what is printed and saved."""
