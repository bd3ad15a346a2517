"""Keys of this user: the team's key, which seals what the team shares and never lies in the catalog."""
