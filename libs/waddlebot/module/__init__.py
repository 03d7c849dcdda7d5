"""What an `app.py` begins with."""
