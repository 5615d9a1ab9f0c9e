"""Key names and layouts of other projects; nothing else here knows them."""
