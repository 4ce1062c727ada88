#pragma once
// Parameters that several kinds of probe have, described once.

#include <array>
#include <string_view>

#include "model/vocabulary.h"

namespace squall::observe {

inline constexpr model::ParameterDescriptor kAlwaysParameter = {
    .name = "always",
    .type = model::ValueType::kBoolean,
    .default_text = "false",
    .summary = "Runs the probe in every experiment, even when no prediction reads it."};

constexpr model::ParameterDescriptor every_parameter(std::string_view default_text) {
  return {.name = "every",
          .type = model::ValueType::kDuration,
          .default_text = default_text,
          .minimum = 50e6,  // 50 ms
          .maximum = 3600e9,
          .summary = "How often it asks."};
}

constexpr model::ParameterDescriptor timeout_parameter(std::string_view default_text) {
  return {.name = "timeout",
          .type = model::ValueType::kDuration,
          .default_text = default_text,
          .minimum = 1e6,  // 1 ms
          .maximum = 300e9,
          .summary = "How long it waits for an answer."};
}

// The children of `expect`, read by Expectation::make.
inline constexpr std::array<model::ParameterDescriptor, 5> kExpectParameters = {{
    {.name = "status",
     .type = model::ValueType::kStatus,
     .default_text = "2xx",
     .summary = "Statuses that count as success: 200, 2xx, or a list of these."},
    {.name = "header",
     .type = model::ValueType::kTextMap,
     .summary = "Headers that must be there: the value itself, or `exists`."},
    {.name = "body",
     .type = model::ValueType::kText,
     .summary = "Text that the body must contain."},
    {.name = "json",
     .type = model::ValueType::kAny,
     .summary = "JSON paths and the values that must stand there: { \"$.status\": ok }."},
    {.name = "condition",
     .type = model::ValueType::kCondition,
     .summary = "A condition on the answer's fields: 'latency < 1s and header[\"ETag\"] exists'."},
}};

inline constexpr model::SignalDescriptor kLatencySignal = {
    .field = "latency",
    .type = model::SignalType::kRequests,
    .unit = "s",
    .summary = "From when it was meant to be asked to the whole answer."};
inline constexpr model::SignalDescriptor kSuccessSignal = {
    .field = "success",
    .type = model::SignalType::kRequests,
    .unit = "%",
    .summary = "The share of answers that are as expected."};

}  // namespace squall::observe
