"""From a customer: submit_sm, its verdict, its parts, its answer."""
