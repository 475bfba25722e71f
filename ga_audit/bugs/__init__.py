"""Known bugs of trainers: one TOML file each in `data/`, loaded and matched by `catalogue`."""
