"""What times the main job."""
