#include "observe/http_response.h"

#include <algorithm>
#include <charconv>

#include "base/text.h"

namespace squall::observe {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool is_token_character(char c) {
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
  return std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

// Whether a comma-separated list names `word`.
bool lists(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    if (equals_ignoring_case(base::trim(list.substr(0, comma)), word)) return true;
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return false;
}

std::string_view last_of_list(std::string_view list) {
  const std::size_t comma = list.rfind(',');
  return base::trim(comma == std::string_view::npos ? list : list.substr(comma + 1));
}

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](char x, char y) { return lower(x) == lower(y); });
}

void HttpResponseParser::start(Request request) {
  request_ = request;
  state_ = ResponseState::kMore;
  part_ = Part::kStatusLine;
  started_ = false;
  reusable_ = true;
  http_1_0_ = keep_alive_ = close_ = chunked_ = transfer_encoding_ = false;
  status_ = 0;
  content_length_.reset();
  left_ = 0;
  body_size_ = 0;
  head_size_ = 0;
  line_.clear();
  line_whole_ = false;
  head_.clear();
  // One huge answer must not hold its memory for the rest of the run.
  if (body_.capacity() > 1u << 20) std::string().swap(body_);
  body_.clear();
}

bool HttpResponseParser::take_line(std::string_view& bytes, std::string_view& line) {
  if (line_whole_) {
    line_.clear();
    line_whole_ = false;
  }
  const std::size_t end = bytes.find('\n');
  const std::size_t length = end == std::string_view::npos ? bytes.size() : end + 1;
  head_size_ += length;
  if (head_size_ > kHeadLimit) {
    state_ = ResponseState::kTooLarge;
    return false;
  }
  if (end == std::string_view::npos) {
    line_.append(bytes);
    bytes = {};
    return false;
  }
  if (line_.empty()) {
    line = bytes.substr(0, end);
  } else {
    line_.append(bytes.substr(0, end));
    line_whole_ = true;
    line = line_;
  }
  bytes.remove_prefix(length);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return true;
}

std::size_t HttpResponseParser::feed(std::string_view bytes) {
  const std::size_t given = bytes.size();
  if (given > 0) started_ = true;
  while (state_ == ResponseState::kMore && !bytes.empty()) {
    switch (part_) {
      case Part::kFixedBody:
      case Part::kBodyToEnd:
      case Part::kChunkData:
        take_body(bytes);
        break;
      default: {
        std::string_view line;
        if (take_line(bytes, line)) on_line(line);
      }
    }
  }
  return given - bytes.size();
}

bool HttpResponseParser::end_of_stream() {
  if (state_ == ResponseState::kMore && part_ == Part::kBodyToEnd)
    state_ = ResponseState::kComplete;
  return state_ == ResponseState::kComplete;
}

void HttpResponseParser::on_line(std::string_view line) {
  switch (part_) {
    case Part::kStatusLine:
      on_status_line(line);
      break;
    case Part::kHeaders:
      if (line.empty()) {
        on_head_end();
      } else {
        on_header(line);
      }
      break;
    case Part::kChunkSize:
      on_chunk_size(line);
      break;
    case Part::kChunkEnd:
      if (!line.empty()) return fail();
      part_ = Part::kChunkSize;
      head_size_ = 0;  // the limit is for the head and for each chunk's line, not for their sum
      break;
    case Part::kTrailers:
      if (line.empty()) state_ = ResponseState::kComplete;
      break;
    default:
      break;
  }
}

void HttpResponseParser::on_status_line(std::string_view line) {
  // "HTTP/1.1 200 OK"; the reason may be missing.
  if (line.size() < 12 || line.substr(0, 7) != "HTTP/1." || line[8] != ' ') return fail();
  if (line[7] != '0' && line[7] != '1') return fail();
  if (line.size() > 12 && line[12] != ' ') return fail();
  http_1_0_ = line[7] == '0';
  int status = 0;
  const auto [end, error] = std::from_chars(line.data() + 9, line.data() + 12, status);
  if (error != std::errc() || end != line.data() + 12 || status < 100) return fail();
  status_ = status;
  part_ = Part::kHeaders;
}

void HttpResponseParser::on_content_length(std::string_view value) {
  std::uint64_t length = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
  if (value.empty() || error != std::errc() || end != value.data() + value.size()) return fail();
  if (content_length_ && *content_length_ != length) return fail();
  content_length_ = length;
}

void HttpResponseParser::on_header(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) return fail();
  const std::string_view name = line.substr(0, colon);
  if (!std::all_of(name.begin(), name.end(), is_token_character)) return fail();
  if (line.find('\0') != std::string_view::npos) return fail();
  const std::string_view value = base::trim(line.substr(colon + 1));
  head_.append(line).push_back('\n');
  if (equals_ignoring_case(name, "content-length")) {
    on_content_length(value);
  } else if (equals_ignoring_case(name, "transfer-encoding")) {
    transfer_encoding_ = true;
    chunked_ = equals_ignoring_case(last_of_list(value), "chunked");
  } else if (equals_ignoring_case(name, "connection")) {
    close_ = close_ || lists(value, "close");
    keep_alive_ = keep_alive_ || lists(value, "keep-alive");
  }
}

// RFC 9112 section 6.3: how long the body is.
void HttpResponseParser::on_head_end() {
  if (status_ < 200) {
    if (status_ == 101) return fail();  // we never ask for another protocol
    head_.clear();
    content_length_.reset();
    chunked_ = transfer_encoding_ = false;
    part_ = Part::kStatusLine;
    return;
  }
  reusable_ = !close_ && (!http_1_0_ || keep_alive_);
  if (request_ == Request::kHead || status_ == 204 || status_ == 304) {
    state_ = ResponseState::kComplete;
    return;
  }
  if (transfer_encoding_) {
    // Both framings at once may be an attempt at smuggling: do not reuse the connection.
    if (content_length_) reusable_ = false;
    part_ = chunked_ ? Part::kChunkSize : Part::kBodyToEnd;
    if (!chunked_) reusable_ = false;
    head_size_ = 0;
    return;
  }
  if (!content_length_) {
    part_ = Part::kBodyToEnd;
    reusable_ = false;
    return;
  }
  left_ = *content_length_;
  if (left_ > limit_) {
    state_ = ResponseState::kTooLarge;
  } else if (left_ == 0) {
    state_ = ResponseState::kComplete;
  } else {
    part_ = Part::kFixedBody;
  }
}

void HttpResponseParser::on_chunk_size(std::string_view line) {
  line = line.substr(0, line.find(';'));  // extensions mean nothing to us
  line = base::trim(line);
  std::uint64_t size = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), size, 16);
  if (line.empty() || error != std::errc() || end != line.data() + line.size()) return fail();
  if (size == 0) {
    part_ = Part::kTrailers;
    return;
  }
  if (size > limit_ || body_size_ > limit_ - size) {
    state_ = ResponseState::kTooLarge;
    return;
  }
  left_ = size;
  part_ = Part::kChunkData;
}

void HttpResponseParser::append_body(std::string_view bytes) {
  body_size_ += bytes.size();
  if (body_mode_ == Body::kKeep) body_.append(bytes);
}

void HttpResponseParser::take_body(std::string_view& bytes) {
  if (part_ == Part::kBodyToEnd) {
    if (bytes.size() > limit_ || body_size_ > limit_ - bytes.size()) {
      state_ = ResponseState::kTooLarge;
      return;
    }
    append_body(bytes);
    bytes = {};
    return;
  }
  const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
  append_body(bytes.substr(0, length));
  bytes.remove_prefix(length);
  left_ -= length;
  if (left_ > 0) return;
  if (part_ == Part::kFixedBody) {
    state_ = ResponseState::kComplete;
  } else {
    part_ = Part::kChunkEnd;
  }
}

std::optional<std::string> HttpResponseParser::header(std::string_view name) const {
  std::optional<std::string> found;
  std::string_view rest = head_;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    const std::size_t colon = line.find(':');
    if (equals_ignoring_case(line.substr(0, colon), name)) {
      const std::string_view value = base::trim(line.substr(colon + 1));
      if (found) {
        found->append(", ").append(value);
      } else {
        found.emplace(value);
      }
    }
    rest.remove_prefix(end + 1);
  }
  return found;
}

}  // namespace squall::observe
