"""From a prepared workspace to an avatar."""
