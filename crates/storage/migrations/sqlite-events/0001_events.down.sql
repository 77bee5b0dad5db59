DROP TABLE reservations;
DROP TABLE budget_sums;
DROP TABLE budgets;
DROP TABLE events;
DROP TABLE names;
