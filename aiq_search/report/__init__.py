"""A study in pictures and sentences, as one HTML file."""
