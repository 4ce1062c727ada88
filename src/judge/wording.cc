#include "judge/wording.h"

#include <fmt/format.h>

#include "model/prediction_language.h"

namespace squall::judge {

using model::Verdict;

std::string limit_text(const model::Prediction& prediction, const Sides& sides) {
  const base::Dimension dimension = prediction.left->dimension;
  if (sides.high) {
    return fmt::format("between {} and {}", describe_value(sides.right, dimension),
                       describe_value(*sides.high, dimension));
  }
  return fmt::format("{} {}", model::to_string(prediction.comparator),
                     describe_value(sides.right, dimension));
}

std::string comparison_sentence(const model::Prediction& prediction, const Sides& sides,
                                Verdict verdict, DecideBy by) {
  const base::Dimension dimension = prediction.left->dimension;
  const std::string what = model::print(*prediction.left);
  const std::string limit = limit_text(prediction, sides);
  const bool point = by == DecideBy::kPoint && !sides.left.incomplete && !sides.right.incomplete;
  const std::string value = point ? describe_number(sides.left.bounded.value, dimension)
                                  : describe_value(sides.left, dimension);
  const bool plain = point || (sides.left.exact && sides.right.exact);
  switch (verdict) {
    case Verdict::kHeld:
      return plain ? fmt::format("{} was {}, which is {}", what, value, limit)
                   : fmt::format("{} was {}, and the whole interval is {}", what, value, limit);
    case Verdict::kViolated:
      return plain ? fmt::format("{} was {}, which is not {}", what, value, limit)
                   : fmt::format("{} was {}, and none of the interval is {}", what, value, limit);
    case Verdict::kInconclusive:
      if (sides.left.incomplete) {
        return fmt::format("{} was {}: what could not be read back decides whether it is {}", what,
                           value, limit);
      }
      return fmt::format(
          "{} was {}, and only part of the interval is {}: {} samples worth {} independent ones "
          "are too few to tell",
          what, value, limit, base::humanize_count(sides.left.samples),
          base::humanize_count(static_cast<std::uint64_t>(sides.left.effective)));
    case Verdict::kNoData:
      break;
  }
  return fmt::format("{} has no data", what);
}

std::string held_within_sentence(const model::WithinClause& within, base::Duration after_anchor) {
  const bool inject = within.anchor == model::WithinClause::Anchor::kInject;
  const std::string when =
      fmt::format("{} after the {}", base::humanize(after_anchor), inject ? "injection" : "revert");
  if (within.hold_for == base::Duration::zero()) return fmt::format("it held {}", when);
  return fmt::format("it held for {}, from {} on", base::format_duration(within.hold_for), when);
}

}  // namespace squall::judge
