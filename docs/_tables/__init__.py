"""What `docs/tables.py` writes: sources, text, and the tables of models, figures and papers."""
