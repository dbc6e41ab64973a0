"""What a run leaves on the disk: its folder, status, events and images."""
