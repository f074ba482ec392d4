"""How a head is drawn: backbones behind one interface, the backdrop, and the avatar file."""
