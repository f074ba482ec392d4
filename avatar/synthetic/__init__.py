"""A person that we draw ourselves: known motion, known geometry, nobody's face. For demo, tests and measurements."""
