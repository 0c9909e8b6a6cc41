"""The chatbot: requests, their records, and the pipeline that takes one from the other."""
