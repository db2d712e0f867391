"""One definition of each number, pure functions of records."""
