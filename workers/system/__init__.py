"""Workers that regrow itself brings along."""
