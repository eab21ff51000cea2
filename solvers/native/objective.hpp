// What is minimised: cost, and prices on memory over the budget and on limits that are passed.
//
// Each price rises while the state is over what it watches and falls slowly else, within bounds.
// Invariant: `lower` is never above `worth` of the same amounts, whatever the clock says; `allowed` asks
// for no more and no less than the judge's limits.

#pragma once

#include "clock.hpp"

namespace poet {

class Objective {
  public:
    Objective(const Problem& p, double price) : p_(p), replay_(p), excess_price_(price) {
        replays_ = replay_.needed();
        plain_ = sums_ = !replays_ && p.most_seconds < 0 && p.most_joules < 0 && p.most_writes < 0;
        Amounts base{};
        for (const Amounts& one : p.run) add_to(base, one);
        base_ = base[COST];
        double worth = std::max(base_, 1e-300);
        watch(p.most_seconds, worth, std::max(base[COMPUTE] * 1e-3, 1e-30));
        watch(p.most_joules, worth, std::max(base[JOULES] * 1e-3, 1e-30));
        watch(p.most_flash, worth, std::max(p.budget * 0.1, 1.0));
        watch(p.most_writes, worth, std::max(p.budget * 0.1, 1.0));
        reset();
    }
    // As if transfers were never hidden and nothing limited but RAM: much faster, and not the truth.
    void pretend_serial(bool serial) {
        plain_ = sums_ || serial;
        replays_ = !serial && replay_.needed();
    }
    bool plain() const { return plain_; }
    bool replays() const { return replays_; }
    double base() const { return base_; }

    Figures figures(const State& state) {
        if (replays_) return replay_.figures(state);
        return {state.amounts()[COMPUTE] + state.amounts()[LANE], 0.0};
    }
    void place(const State& state, Answer& answer) { replay_.place(state, answer); }

    // The objective as the judge counts it.
    double cost(const Amounts& amounts, const Figures& figures) const {
        if (plain_) return amounts[COST];
        return p_.time ? figures.seconds : amounts[JOULES] + p_.idle_watts * figures.seconds;
    }
    double worth(const Amounts& amounts, double excess, const Figures& figures) const {
        double worth = cost(amounts, figures) + price_ * excess;
        if (plain_) return worth;
        double joules = amounts[JOULES] + p_.idle_watts * figures.seconds;
        worth += fine(0, figures.seconds) + fine(1, joules);
        return worth + fine(2, figures.flash) + fine(3, amounts[WRITES]);
    }
    double worth_plain(double cost, double excess) const { return cost + price_ * excess; }
    // What they are worth at least, before any replay.
    double lower(const Amounts& amounts, double excess) const {
        double seconds = amounts[COMPUTE] + amounts[LANE];
        if (replays_ && p_.overlap) seconds = std::max(amounts[COMPUTE], amounts[LANE]);
        return worth(amounts, excess, {seconds, 0.0});
    }
    bool allowed(const Amounts& amounts, const Figures& figures) const {
        if (plain_) return true;
        double joules = amounts[JOULES] + p_.idle_watts * figures.seconds;
        return within(p_.most_seconds, figures.seconds) && within(p_.most_joules, joules) &&
               within(p_.most_flash, figures.flash) && within(p_.most_writes, amounts[WRITES]);
    }
    void reset() {
        price_ = excess_price_;
        for (Limit& limit : limits_) limit.price = limit.first_price;
    }
    void dear() { price_ = excess_price_ * 1e5; }
    double price() const { return price_; }
    void adapt(const Amounts& amounts, double excess, const Figures& figures) {
        adapt(price_, excess_price_, excess > 0);
        if (plain_) return;
        double joules = amounts[JOULES] + p_.idle_watts * figures.seconds;
        const double found[] = {figures.seconds, joules, figures.flash, amounts[WRITES]};
        for (int i = 0; i < 4; ++i)
            if (limits_[i].most >= 0) adapt(limits_[i].price, limits_[i].first_price, found[i] > limits_[i].most);
    }

  private:
    struct Limit {
        double most, first_price, price;
    };
    const Problem& p_;
    Replay replay_;
    double excess_price_, price_ = 0, base_ = 0;
    bool sums_ = true, plain_ = true, replays_ = false;  // sums_: plain is the truth
    std::vector<Limit> limits_;  // seconds, joules, flash, writes

    // Twice the limit costs as much again as the step, to begin with.
    void watch(double most, double worth, double least) {
        double price = most < 0 ? 0.0 : worth / std::max(most, least);
        limits_.push_back({most, price, price});
    }
    double fine(int which, double amount) const {
        const Limit& limit = limits_[which];
        return limit.most < 0 ? 0.0 : limit.price * over(amount - limit.most);
    }
    static bool within(double most, double amount) { return most < 0 || amount <= most; }
    static void adapt(double& price, double first, bool over) {
        price *= over ? 1.1 : 0.95;
        price = std::min(std::max(price, first * 0.05), first * 1e6);
    }
};

}  // namespace poet
