"""Find, check and describe the configs."""
