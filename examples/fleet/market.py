"""Rates and prices: who publishes, and who has subscribed."""

from __future__ import annotations

from regrow.workers import Agent, handler


class Rates(Agent):
    """Knows what a euro is worth, and tells everybody when that changes."""

    replies = (LookupError,)

    def init(self, start: dict[str, float]) -> None:
        self.rates = start
        for currency, rate in start.items():  # after a restart the pricers may know later ones
            self.publish(f"rates.{currency}", rate)

    @handler
    def put(self, currency: str, rate: float) -> None:
        if currency not in self.rates:
            raise LookupError(f"{currency} is not traded here")
        self.rates[currency] = rate
        self.publish(f"rates.{currency}", rate)

    @handler
    def all(self) -> dict[str, float]:
        return self.rates


class Pricer(Agent):
    """Quotes prices. Has no state that it could not get again, so it may die at any time."""

    replies = (LookupError,)

    def init(self, prices: dict[str, float]) -> None:
        self.prices = prices
        self.subscribe("rates.*")  # before asking: a change between the two is heard rather than missed
        self.rates = self.call("rates", "all", returns=dict[str, float])

    def on_signal(self, topic: str, message: float) -> None:
        self.rates[topic.removeprefix("rates.")] = message

    @handler
    def quote(self, sku: str, currency: str = "EUR") -> float:
        for known, word in ((self.prices, sku), (self.rates, currency)):
            if word not in known:
                raise LookupError(f"no {word} here; there is {', '.join(known)}")
        return round(self.prices[sku] * self.rates[currency], 2)
