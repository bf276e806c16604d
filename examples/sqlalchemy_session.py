"""Write orders in the same transaction as an application's own tables.

python examples/sqlalchemy_session.py

Everything is kept in `orderkit.db`, or wherever `ORDERKIT_DATABASE_URL` says.
"""

from __future__ import annotations

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from orderkit import Line, Money, Order, OrderFilter, OrderKit, Settings


class Base(DeclarativeBase):
    """The application's own tables."""


class Basket(Base):
    """A basket of the application, which becomes an order once."""

    __tablename__ = "baskets"

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    quantity: Mapped[int]
    order_id: Mapped[str | None]


def check_out(kit: OrderKit, session: Session, basket: Basket) -> Order:
    """Place the order of a basket in the session's transaction; committing stays with the caller."""
    order = kit.within(session).orders.place(
        lines=[Line(sku=basket.sku, quantity=basket.quantity, unit_price=Money("4.50", "EUR"))],
        external_references={"basket": str(basket.id)},
    )
    basket.order_id = order.id
    return order


def main() -> None:
    """Check one basket out, and fail at another: of that one neither basket nor order is kept."""
    engine = create_engine(Settings().url)
    Base.metadata.create_all(engine)
    kit = OrderKit.from_engine(engine)
    kit.create_schema()

    with Session(engine) as session, session.begin():
        basket = Basket(sku="TEA-001", quantity=2)
        session.add(basket)
        session.flush()
        order = check_out(kit, session, basket)
        kept = str(basket.id)
    print(f"committed together: basket {kept} and order {order.number}, {order.total}")

    lost = ""
    try:
        with Session(engine) as session, session.begin():
            basket = Basket(sku="TEA-002", quantity=1)
            session.add(basket)
            session.flush()
            lost = str(basket.id)
            check_out(kit, session, basket)
            raise ConnectionError("the gift wrapping service is not there")
    except ConnectionError as error:
        print(f"rolled back together: {error}")

    for reference in (kept, lost):
        found = kit.orders.search(OrderFilter(external_references={"basket": reference}))
        print(f"orders of basket {reference}: {len(found.items)}")
    kit.close()
    engine.dispose()


if __name__ == "__main__":
    main()
