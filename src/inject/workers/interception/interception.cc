#include "inject/workers/interception/interception.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "inject/json_fields.h"

namespace squall::inject {

namespace {

constexpr base::Duration kLongest = std::chrono::seconds(60);
constexpr std::int64_t kLargestError = 133;  // EHWPOISON, the last one
constexpr std::size_t kMostProcesses = 4096;

}  // namespace

base::Result<Interception> interception_from_json(const base::Json& json) {
  const base::Json& share = field(json, "share");
  const std::int64_t error = integer_field(json, "errno");
  Interception result;
  result.delay = base::Duration{integer_field(json, "delay_ns")};
  result.jitter = base::Duration{integer_field(json, "jitter_ns")};
  const bool has_share = share.is_number() && share.get<double>() > 0 && share.get<double>() <= 1;
  const bool in_range = error >= 0 && error <= kLargestError &&
                        result.delay >= base::Duration::zero() && result.delay <= kLongest &&
                        result.jitter >= base::Duration::zero() && result.jitter <= kLongest;
  if (!has_share || !in_range || (error == 0) == (result.delay == base::Duration::zero())) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "an interception's configuration makes no sense"};
  }
  result.share = share.get<double>();
  result.error = static_cast<int>(error);
  return result;
}

base::Json to_json(const Interception& interception) {
  return {{"share", interception.share},
          {"delay_ns", interception.delay.count()},
          {"jitter_ns", interception.jitter.count()},
          {"errno", interception.error}};
}

base::Result<InterceptionOrder> order_from_json(const base::Json& json, std::string_view worker) {
  const base::Error senseless{.code = base::ErrorCode::kCorrupt,
                              .message = fmt::format("{}'s configuration makes no sense", worker)};
  InterceptionOrder order;
  SQUALL_ASSIGN(order.interception, interception_from_json(field(json, "interception")));
  order.seed = unsigned_field(json, "seed");
  order.lifetime = base::Duration{integer_field(json, "lifetime_ns")};
  const base::Json& processes = field(json, "processes");
  if (!processes.is_array() || processes.empty() || processes.size() > kMostProcesses ||
      order.lifetime < base::Duration::zero())
    return senseless;
  for (const base::Json& item : processes) {
    order.processes.push_back(identity_of(item));
    if (order.processes.back().pid <= 1) return senseless;
  }
  return order;
}

base::Json order_to_json(const InterceptionOrder& order) {
  base::Json processes = base::Json::array();
  for (const auto& process : order.processes) processes.push_back(to_json(process));
  return {{"interception", to_json(order.interception)},
          {"seed", order.seed},
          {"lifetime_ns", order.lifetime.count()},
          {"processes", processes}};
}

InterceptionModel::Fate InterceptionModel::decide() {
  if (interception_.share < 1 && random_.uniform() >= interception_.share) return {};
  Fate fate{.hit = true, .delay = interception_.delay, .error = interception_.error};
  if (interception_.jitter > base::Duration::zero()) {
    const double offset =
        (2 * random_.uniform() - 1) * static_cast<double>(interception_.jitter.count());
    fate.delay =
        std::max(base::Duration::zero(), fate.delay + base::Duration{std::llround(offset)});
  }
  return fate;
}

}  // namespace squall::inject
