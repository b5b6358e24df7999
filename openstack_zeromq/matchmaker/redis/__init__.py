"""redis and sentinel: a fabric's topics in Redis or Valkey.

`schema` says what is kept there and how it is changed, `client` asks and changes it, `changes` keeps one topic up to date,
`following` hears of the changes of all that are wanted, `store` is what the matchmaker sees of this.
"""
