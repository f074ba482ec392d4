"""Sound to motion: phones, a rule model of the lips, its adaptation to a person, and the clip's sound offset."""
