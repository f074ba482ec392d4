"""Motion to film: where motion comes from, how it is put on an avatar, and how the film is drawn."""
