#include "observe/sample_sink.h"

#include <algorithm>
#include <type_traits>

#include "base/check.h"

namespace squall::observe {

base::Result<evidence::SeriesId> SampleSink::declare(
    const evidence::SeriesDeclaration& declaration) {
  const std::lock_guard lock(mutex_);
  SQUALL_CHECK(recorder_ != nullptr);
  return recorder_->declare(declaration);
}

void SampleSink::add_dropped(evidence::SeriesId series, base::Instant intended) {
  const std::lock_guard lock(mutex_);
  if (recorder_ != nullptr) recorder_->add_dropped(series, intended);
}

void SampleSink::add_write(evidence::SeriesId series, const evidence::WriteRecord& write) {
  const std::lock_guard lock(mutex_);
  if (recorder_ != nullptr) recorder_->add_write(series, write);
}

void SampleSink::add_read_back(evidence::SeriesId series, const evidence::ReadBack& read_back) {
  const std::lock_guard lock(mutex_);
  if (recorder_ != nullptr) recorder_->add_read_back(series, read_back);
}

void SampleSink::add(const evidence::Event& event) {
  const std::lock_guard lock(mutex_);
  if (recorder_ != nullptr) recorder_->add(event);
}

void SampleSink::close() {
  const std::lock_guard lock(mutex_);
  recorder_ = nullptr;
}

bool reads_field(const model::Condition& condition, std::string_view name) {
  return std::visit(
      [name](const auto& node) {
        using Node = std::decay_t<decltype(node)>;
        if constexpr (std::is_same_v<Node, model::All> || std::is_same_v<Node, model::Any>) {
          return std::any_of(node.conditions.begin(), node.conditions.end(),
                             [name](const auto& part) { return reads_field(*part, name); });
        } else if constexpr (std::is_same_v<Node, model::Not>) {
          return reads_field(*node.condition, name);
        } else {
          return node.field.name == name;
        }
      },
      condition.node);
}

RequestSeries::RequestSeries(SampleSink& sink, std::vector<model::Slice> slices)
    : sink_(sink), slices_(std::move(slices)) {
  SQUALL_CHECK(!slices_.empty() && slices_.front().where == nullptr);
  for (const model::Slice& slice : slices_) {
    if (slice.where == nullptr) continue;
    needs_header_ = needs_header_ || reads_field(*slice.where, "header");
    needs_json_ = needs_json_ || reads_field(*slice.where, "json");
  }
}

base::Status RequestSeries::declare(const std::string& probe) {
  for (const model::Slice& slice : slices_) {
    SQUALL_ASSIGN(const evidence::SeriesId id,
                  sink_.declare({.name = slice.id,
                                 .kind = evidence::SeriesKind::kRequests,
                                 .unit = "s",
                                 .source = probe}));
    ids_.push_back(id);
  }
  return {};
}

void RequestSeries::add(const evidence::RequestSample& sample, model::RequestFields fields) {
  sink_.add(ids_.front(), sample);
  if (slices_.size() == 1) return;
  fields.status = sample.status;
  fields.latency_seconds = base::to_seconds(sample.done - sample.intended);
  fields.success = sample.outcome == evidence::Outcome::kOk;
  fields.faulted = sample.faulted;
  fields.outcome = evidence::to_string(sample.outcome);
  for (std::size_t i = 1; i < slices_.size(); ++i) {
    if (slices_[i].where == nullptr || model::matches(*slices_[i].where, fields)) {
      sink_.add(ids_[i], sample);
    }
  }
}

void RequestSeries::add_dropped(base::Instant intended) {
  for (const evidence::SeriesId id : ids_) sink_.add_dropped(id, intended);
}

}  // namespace squall::observe
