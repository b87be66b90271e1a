"""Networks trained elsewhere: conventions, our decoding layers behind them, channels checked."""
