"""What every room stands on: command lines, devices, files."""
