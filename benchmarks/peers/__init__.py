"""Other people's clients, each a small program that sends what it is told and says what it cost."""
