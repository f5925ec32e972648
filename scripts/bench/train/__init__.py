"""Trainings of many seeds on Cora against PyG."""
