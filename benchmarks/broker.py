"""Broker: RabbitMQ. Stands in until it is written."""


class Broker: ...
