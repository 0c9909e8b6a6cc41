"""Files of the operator: values with their lines, and everything that is wrong with them at once."""
