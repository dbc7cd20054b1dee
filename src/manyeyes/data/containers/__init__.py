"""Data files by what they are made of: rows and images of JSON, tables, archives."""
