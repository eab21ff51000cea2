// A sequence of runs that changes: journalled primitives, and changes made for good.
//
// A primitive (a run in or out, an event in or out, a flag, a storage's side, a move) keeps the books by
// itself and is undone in reverse. What is made for good takes memory and amounts from the trial that
// found them. Invariant: `undo` leaves the books as they were at the last `commit`; `broken()` counts
// values whose first event does not give them.

#pragma once

#include "books.hpp"

namespace poet {

class State : public Books {
  public:
    State(const Problem& problem, const Start& start) : Books(problem) {
        build(start);
        commit();
    }

    // -- primitives ---------------------------------------------------------------------------
    void run_in(int node, int place) {
        double memory = place < length() && place > 0 ? across(place) : -p_.budget;
        double own = 0;
        if (op_of_[node] >= 0) {
            own = p_.workspace[op_of_[node]];
            add_to(amounts_, p_.run[op_of_[node]]);
        }
        own_[node] = own;
        order_.insert(order_.begin() + place, node);
        memory_.insert(memory_.begin() + place, memory + own);
        renumber(place);
        excess_ += over(memory + own);
        if (extra(node)) note_extra(node);
        journal_.push_back({What::run_in, node, place, {}, false});
    }
    void run_out(int node) {
        int place = place_of_[node];
        excess_ -= over(memory_[place]);
        if (op_of_[node] >= 0) add_to(amounts_, p_.run[op_of_[node]], -1);
        order_.erase(order_.begin() + place);
        memory_.erase(memory_.begin() + place);
        renumber(place);
        place_of_[node] = gone;
        if (extra(node)) forget_extra(node);
        journal_.push_back({What::run_out, node, place, {}, false});
    }
    void event_in(int v, Event event) {
        if (p_.is_generator(v)) return draw(v, event, true);
        Events& list = events_[v];
        broken_ -= is_broken(v);
        int place = place_of_[event.node], index = lower(v, place);
        int before = index > 0 ? place_of_[list[index - 1].node] : -1;
        bool next_held = held(v, index), stays = event.held_use() && before >= 0;
        double size = p_.size[v];
        if (next_held) {
            if (!stays) add(before + 1, event.kind == Kind::mutate ? place + 1 : place, -size);
        } else {
            if (event.kind != Kind::mutate) add(place, place + 1, size);
            if (stays) add(before + 1, place, size);
            if (index == 0 && !list.empty() && list[0].held_use()) {
                add(place + 1, place_of_[list[0].node], size);
                own_[list[0].node] -= size;
            }
        }
        if (!stays && event.kind != Kind::mutate) own_[event.node] += size;
        list.insert(list.begin() + index, event);
        if (event.paged) count_page(v, +1);
        broken_ += is_broken(v);
        journal_.push_back({What::event_in, v, 0, event, false});
    }
    void event_out(int v, int node) {
        int index = index_of(v, node);
        Events& list = events_[v];
        Event event = list[index];
        if (p_.is_generator(v)) return draw(v, event, false);
        broken_ -= is_broken(v);
        int place = place_of_[node];
        int before = index > 0 ? place_of_[list[index - 1].node] : -1;
        bool stays = event.held_use() && before >= 0;
        double size = p_.size[v];
        bool next_held = held(v, index + 1);
        list.erase(list.begin() + index);
        if (next_held && before >= 0) {  // the gap closes over the place
            if (!stays) add(before + 1, event.kind == Kind::mutate ? place + 1 : place, size);
        } else {
            if (event.kind != Kind::mutate) add(place, place + 1, -size);
            if (stays) add(before + 1, place, -size);
            if (next_held) {
                add(place + 1, place_of_[list[0].node], -size);
                own_[list[0].node] += size;
            }
        }
        if (!stays && event.kind != Kind::mutate) own_[node] -= size;
        if (event.paged) count_page(v, -1);
        broken_ += is_broken(v);
        journal_.push_back({What::event_out, v, 0, event, false});
    }
    void flag(int v, int node, bool paged) {
        int index = index_of(v, node);
        Events& list = events_[v];
        if (list[index].paged == paged) return;
        broken_ -= is_broken(v);
        list[index].paged = paged;
        if (index > 0) {
            double size = paged ? -p_.size[v] : p_.size[v];
            add(place_of_[list[index - 1].node] + 1, place_of_[node], size);
            own_[node] -= size;
        }
        count_page(v, paged ? +1 : -1);
        broken_ += is_broken(v);
        journal_.push_back({What::flag, v, node, {}, !paged});
    }

    // -- compounds ----------------------------------------------------------------------------
    void set_ram(int i, bool in_ram) {  // the caller flags the first use
        auto [first, last] = p_.persistent[i];
        ram_flag(i, in_ram);
        if (in_ram) {
            event_in(first, {start_node_, Kind::write, false});
            if (index_of(last, end_node_) < 0) event_in(last, {end_node_, Kind::use, false});
        } else {
            bool is_result = std::find(p_.results.begin(), p_.results.end(), last) != p_.results.end();
            if (!is_result) event_out(last, end_node_);
            event_out(first, start_node_);
        }
    }
    // The events of a run that stands in the order; `paged` are its uses that page in.
    void touch_all(int node, const int* paged, int count) {
        int op = op_of_[node];
        for (int v : p_.needed[op])
            event_in(v, {node, Kind::use, std::find(paged, paged + count, v) != paged + count});
        for (int v : p_.written[op]) event_in(v, {node, Kind::write, false});
        for (int v : p_.mutated[op]) event_in(v, {node, Kind::mutate, false});
        if (p_.generator[op] >= 0) event_in(p_.generator[op], {node, Kind::write, false});
    }
    void untouch_all(int node) {
        int op = op_of_[node];
        for (int v : p_.needed[op]) event_out(v, node);
        for (int v : p_.written[op]) event_out(v, node);
        for (int v : p_.mutated[op]) event_out(v, node);
        if (p_.generator[op] >= 0) event_out(p_.generator[op], node);
    }
    int insert(int op, int before_node, const int* paged, int count) {
        int node = new_node(op);
        run_in(node, place_of_[before_node]);
        touch_all(node, paged, count);
        return node;
    }
    void remove(int node) {
        untouch_all(node);
        run_out(node);
    }
    // To the boundary before the run that stands at `target` now. Where memory steps is known, and
    // what it is at the run then.
    void move(int node, int target, const Steps::Step* steps, int count, double memory, double excess) {
        int place = place_of_[node];
        journal_.push_back({What::move, node, place, {}, false});
        moves_.push_back({memory_[place], excess, static_cast<int>(moved_.size())});
        moved_.insert(moved_.end(), steps, steps + count);
        Steps::apply(steps, count, memory_.data(), +1);
        shift(node, target > place ? target - 1 : target, memory);
        excess_ += excess;
    }

    // -- for good: memory is known, nothing is journalled --------------------------------------
    void take(const Steps::Step* steps, int count, const Amounts& amounts, double excess) {
        Steps::apply(steps, count, memory_.data(), +1);
        add_to(amounts_, amounts);
        excess_ += excess;
    }
    void flag_bare(int v, int node, bool paged) {
        int index = index_of(v, node);
        if (events_[v][index].paged == paged) return;
        events_[v][index].paged = paged;
        if (index > 0) own_[node] += paged ? p_.size[v] : -p_.size[v];
        note_page(v, paged ? 1 : -1);
    }
    void insert_bare(int op, int before_node, const int* paged, int count, double memory) {
        int node = new_node(op), place = place_of_[before_node];
        order_.insert(order_.begin() + place, node);
        memory_.insert(memory_.begin() + place, memory);
        renumber(place);
        note_extra(node);
        double own = p_.workspace[op];
        for (int v : p_.needed[op]) {
            bool pages = std::find(paged, paged + count, v) != paged + count;
            put_event(v, {node, Kind::use, pages});
            if (!pages) continue;
            own += p_.size[v];
            note_page(v, 1);
        }
        for (int v : p_.written[op]) {
            put_event(v, {node, Kind::write, false});
            own += p_.size[v];
        }
        own_[node] = own;
        if (int g = p_.generator[op]; g >= 0) {
            put_event(g, {node, Kind::write, false});
            if (events_[g].size() == 2) own_[events_[g].front().node] += p_.size[g];
        }
    }
    void remove_bare(int node) {
        int op = op_of_[node], place = place_of_[node];
        for (int v : p_.needed[op]) {
            int index = index_of(v, node);
            if (events_[v][index].paged) note_page(v, -1);
            events_[v].erase(events_[v].begin() + index);
        }
        for (int v : p_.written[op]) events_[v].erase(events_[v].begin() + index_of(v, node));
        if (int g = p_.generator[op]; g >= 0) {
            events_[g].erase(events_[g].begin() + index_of(g, node));
            if (events_[g].size() == 1) own_[events_[g].front().node] -= p_.size[g];
        }
        order_.erase(order_.begin() + place);
        memory_.erase(memory_.begin() + place);
        renumber(place);
        forget_extra(node);
        place_of_[node] = recycled;
        free_.push_back(node);
    }

    void commit() {
        recycle(journal_);
        journal_.clear();
        moves_.clear();
        moved_.clear();
    }
    void undo() {
        steps_.swap(journal_);
        for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
            switch (step->what) {
                case What::run_in: run_out(step->a); break;
                case What::run_out: run_in(step->a, step->b); break;
                case What::event_in: event_out(step->a, step->event.node); break;
                case What::event_out: event_in(step->a, step->event); break;
                case What::flag: flag(step->a, step->b, step->on); break;
                case What::ram: ram_flag(step->a, step->on); break;
                case What::move: move_back(step->a, step->b); break;
            }
        }
        recycle(steps_);
        steps_.clear();
        journal_.clear();
    }

  private:
    enum class What : std::uint8_t { run_in, run_out, event_in, event_out, flag, ram, move };
    struct Step {
        What what;
        int a, b;
        Event event;
        bool on;
    };
    std::vector<Step> journal_, steps_;
    struct Moved { double memory, excess; int first; };  // of a move in the journal: its steps from `first` on
    std::vector<Moved> moves_;
    std::vector<Steps::Step> moved_;

    void build(const Start& start) {
        run_in(start_node_, 0);
        for (int v : p_.begins) event_in(v, {start_node_, Kind::write, false});
        Ints nodes;
        std::vector<char> seen(ops_, 0);
        for (int op : start.runs) {
            int node = seen[op] ? new_node(op) : op;
            seen[op] = 1;
            nodes.push_back(node);
            run_in(node, length());
        }
        nodes.push_back(end_node_);
        run_in(end_node_, length());
        for (std::size_t i = 0; i < p_.persistent.size(); ++i)
            if (start.start_ram[i]) set_ram(static_cast<int>(i), true);
        for (int v : p_.results)
            if (index_of(v, end_node_) < 0) event_in(v, {end_node_, Kind::use, false});
        for (int node : nodes)
            if (node != end_node_) touch_all(node, nullptr, 0);
        for (auto [v, place] : start.paged) flag(v, nodes[place], true);
        for (auto [first, last] : p_.persistent) {
            const Events& list = events_[first];
            if (!list.empty() && list[0].kind == Kind::use) flag(first, list[0].node, true);
        }
    }
    void recycle(const std::vector<Step>& steps) {
        for (const Step& step : steps) {
            bool run = step.what == What::run_in || step.what == What::run_out;
            if (run && extra(step.a) && place_of_[step.a] == gone) {
                place_of_[step.a] = recycled;
                free_.push_back(step.a);
            }
        }
    }
    void move_back(int node, int place) {
        const Moved& moved = moves_.back();
        shift(node, place, moved.memory);
        Steps::apply(moved_.data() + moved.first, static_cast<int>(moved_.size()) - moved.first, memory_.data(), -1);
        memory_[place] = moved.memory;
        excess_ -= moved.excess;
        moved_.resize(moved.first);
        moves_.pop_back();
    }
    // A run of a random op comes or goes: the state of the generator is in use from first to last.
    void draw(int v, Event event, bool comes) {
        Events& list = events_[v];
        double size = p_.size[v];
        auto count = [&](double sign) {
            if (list.size() < 2) return;
            add(place_of_[list.front().node], place_of_[list.back().node] + 1, sign * size);
            own_[list.front().node] += sign * size;
        };
        count(-1);
        int index = lower(v, place_of_[event.node]);
        if (comes) list.insert(list.begin() + index, event); else list.erase(list.begin() + index);
        count(+1);
        journal_.push_back({comes ? What::event_in : What::event_out, v, 0, event, false});
    }
    void ram_flag(int i, bool in_ram) {
        int last = p_.persistent[i].second;
        if (copies_end(i)) add_to(amounts_, p_.out[last], -1);
        in_ram_[i] = in_ram;
        if (copies_end(i)) add_to(amounts_, p_.out[last]);
        journal_.push_back({What::ram, i, 0, {}, !in_ram});
    }
};

}  // namespace poet
