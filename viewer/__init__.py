"""The viewer in the browser: see an avatar from any side, move its face, hear it talk, live."""
