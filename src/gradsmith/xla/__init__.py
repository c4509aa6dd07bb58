"""What the compiler has to be told: targets, chunks, order, arithmetic."""
