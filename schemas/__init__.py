"""The nouns: frozen pydantic models and nothing that acts. Everything else imports these; these import nobody."""
